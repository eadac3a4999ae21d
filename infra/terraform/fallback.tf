# The fallback: a script of its own, deployed before the edge, which binds its object.
locals {
  # Made by `npm run dry-run`.
  fallback_dist = "${path.module}/../../dist/fallback"
  fallback_migrations = [
    { tag = "v1", new_sqlite_classes = ["FallbackObject"] },
  ]
  fallback_tags    = local.fallback_migrations[*].tag
  fallback_done    = var.fallback_migrated_tag == "" ? 0 : index(local.fallback_tags, var.fallback_migrated_tag) + 1
  fallback_pending = slice(local.fallback_migrations, local.fallback_done, length(local.fallback_migrations))
}

resource "cloudflare_worker" "fallback" {
  account_id = var.account_id
  name       = "nibble-fallback"
  # Only the edge's objects reach it.
  subdomain = {
    enabled          = false
    previews_enabled = false
  }
  observability = { enabled = true }
}

resource "cloudflare_worker_version" "fallback" {
  account_id         = var.account_id
  worker_id          = cloudflare_worker.fallback.id
  compatibility_date = "2026-10-01"
  main_module        = "index.js"
  modules = [
    for file in sort(setunion(fileset(local.fallback_dist, "*.js"), fileset(local.fallback_dist, "*.wasm"))) : {
      name         = file
      content_file = "${local.fallback_dist}/${file}"
      content_type = endswith(file, ".wasm") ? "application/wasm" : "application/javascript+module"
    }
  ]
  bindings = [
    { type = "durable_object_namespace", name = "FALLBACK", class_name = "FallbackObject" },
    { type = "r2_bucket", name = "MODELS", bucket_name = cloudflare_r2_bucket.models.name },
  ]
  migrations = length(local.fallback_pending) == 0 ? null : {
    old_tag = var.fallback_migrated_tag == "" ? null : var.fallback_migrated_tag
    new_tag = local.fallback_tags[length(local.fallback_tags) - 1]
    steps   = [for migration in local.fallback_pending : { new_sqlite_classes = migration.new_sqlite_classes }]
  }
}

resource "cloudflare_workers_deployment" "fallback" {
  account_id  = var.account_id
  script_name = cloudflare_worker.fallback.name
  strategy    = "percentage"
  versions    = [{ percentage = 100, version_id = cloudflare_worker_version.fallback.id }]
}
