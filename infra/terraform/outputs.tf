output "migration_tag" {
  value       = local.edge_tags[length(local.edge_tags) - 1]
  description = "The next apply's migrated_tag."
}

output "fallback_migration_tag" {
  value       = local.fallback_tags[length(local.fallback_tags) - 1]
  description = "The next apply's fallback_migrated_tag."
}

output "weights_endpoint" {
  value       = "https://${var.account_id}.r2.cloudflarestorage.com"
  description = "AWS_ENDPOINT_URL_S3 of workers that load from s3://nibble-weights."
}

output "reports_database_id" {
  value       = cloudflare_d1_database.reports.id
  description = "For wrangler.toml, where wrangler deploys after this."
}
