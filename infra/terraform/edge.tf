# The edge: the Worker and its Durable Objects. A test holds this file against wrangler.toml.
locals {
  # Made by `npm run dry-run`.
  edge_dist = "${path.module}/../../dist/edge"
  edge_migrations = [
    { tag = "v1", new_sqlite_classes = ["AccountObject", "QueueObject", "CatalogObject"] },
    { tag = "v2", new_sqlite_classes = ["DirectoryObject"] },
  ]
  edge_tags    = local.edge_migrations[*].tag
  edge_done    = var.migrated_tag == "" ? 0 : index(local.edge_tags, var.migrated_tag) + 1
  edge_pending = slice(local.edge_migrations, local.edge_done, length(local.edge_migrations))
  edge_objects = {
    ACCOUNT   = "AccountObject"
    QUEUE     = "QueueObject"
    CATALOG   = "CatalogObject"
    DIRECTORY = "DirectoryObject"
  }
  edge_variables = merge(
    {
      DEFAULT_PROMPT_MICRO_USD_PER_MTOK     = "100000"
      DEFAULT_COMPLETION_MICRO_USD_PER_MTOK = "400000"
      QUEUE_TIMEOUT_MS                      = "60000"
      QUEUE_DEPTH                           = "1000"
      QUEUE_SHARDS                          = "1"
    },
    var.default_model == "" ? {} : { DEFAULT_MODEL = var.default_model },
  )
}

resource "cloudflare_worker" "edge" {
  account_id = var.account_id
  name       = "nibble"
  subdomain = {
    enabled          = true
    previews_enabled = false
  }
  observability = { enabled = true }
}

resource "cloudflare_worker_version" "edge" {
  account_id          = var.account_id
  worker_id           = cloudflare_worker.edge.id
  compatibility_date  = "2026-10-01"
  compatibility_flags = ["enable_request_signal"]
  main_module         = "index.js"
  modules = [
    { name = "index.js", content_file = "${local.edge_dist}/index.js", content_type = "application/javascript+module" },
  ]
  bindings = concat(
    [for name, class in local.edge_objects : { type = "durable_object_namespace", name = name, class_name = class }],
    [
      { type = "durable_object_namespace", name = "FALLBACK", class_name = "FallbackObject", script_name = cloudflare_worker.fallback.name },
      { type = "queue", name = "USAGE_QUEUE", queue_name = cloudflare_queue.usage.queue_name },
      { type = "d1", name = "REPORTS", id = cloudflare_d1_database.reports.id },
      { type = "secret_text", name = "KEY_SECRETS", text = var.key_secrets },
      { type = "secret_text", name = "ADMIN_KEY", text = var.admin_key },
    ],
    [for name, text in local.edge_variables : { type = "plain_text", name = name, text = text }],
  )
  migrations = length(local.edge_pending) == 0 ? null : {
    old_tag = var.migrated_tag == "" ? null : var.migrated_tag
    new_tag = local.edge_tags[length(local.edge_tags) - 1]
    steps   = [for migration in local.edge_pending : { new_sqlite_classes = migration.new_sqlite_classes }]
  }
  depends_on = [cloudflare_workers_deployment.fallback]
}

resource "cloudflare_workers_deployment" "edge" {
  account_id  = var.account_id
  script_name = cloudflare_worker.edge.name
  strategy    = "percentage"
  versions    = [{ percentage = 100, version_id = cloudflare_worker_version.edge.id }]
}
