# The fallback's models.
resource "cloudflare_r2_bucket" "models" {
  account_id = var.account_id
  name       = "nibble-models"
}

# Weights of the workers: s3://nibble-weights/… at https://<account>.r2.cloudflarestorage.com. Its access keys are made in the dashboard.
resource "cloudflare_r2_bucket" "weights" {
  account_id = var.account_id
  name       = "nibble-weights"
}

# Ledger rows on their way to the reporting copy.
resource "cloudflare_queue" "usage" {
  account_id = var.account_id
  queue_name = "nibble-usage"
}

resource "cloudflare_d1_database" "reports" {
  account_id = var.account_id
  name       = "nibble-reports"
}

resource "cloudflare_queue_consumer" "usage" {
  account_id  = var.account_id
  queue_id    = cloudflare_queue.usage.queue_id
  type        = "worker"
  script_name = cloudflare_worker.edge.name
  settings = {
    batch_size       = 50
    max_wait_time_ms = 5000
    max_retries      = 100
    retry_delay      = 30
  }
  depends_on = [cloudflare_workers_deployment.edge]
}
