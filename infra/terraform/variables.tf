variable "account_id" {
  type        = string
  description = "The Cloudflare account."
}

variable "key_secrets" {
  type        = string
  sensitive   = true
  description = "KEY_SECRETS: {\"1\":\"<64 hex digits>\"}; two versions while rotating. It is kept in Terraform's state: encrypt that."

  validation {
    condition     = can(jsondecode(var.key_secrets)) && alltrue([for secret in values(jsondecode(var.key_secrets)) : can(regex("^[0-9a-f]{64}$", secret))])
    error_message = "key_secrets is JSON: version to 64 hex digits."
  }
}

variable "admin_key" {
  type        = string
  sensitive   = true
  description = "ADMIN_KEY: the root credential of /admin and /metrics. It is kept in Terraform's state: encrypt that."

  validation {
    condition     = length(var.admin_key) >= 16
    error_message = "admin_key has at least 16 characters."
  }
}

variable "default_model" {
  type        = string
  default     = ""
  description = "DEFAULT_MODEL: behind requests that name none; empty: the first that was ever registered."
}

variable "migrated_tag" {
  type        = string
  default     = ""
  description = "The migration that the edge's deployed version has: empty on an account without it, afterwards the output migration_tag of the last apply."

  validation {
    condition     = contains(["", "v1", "v2"], var.migrated_tag)
    error_message = "migrated_tag is empty or one of the tags in wrangler.toml."
  }
}

variable "fallback_migrated_tag" {
  type        = string
  default     = ""
  description = "As migrated_tag, for the fallback's script."

  validation {
    condition     = contains(["", "v1"], var.fallback_migrated_tag)
    error_message = "fallback_migrated_tag is empty or one of the tags in edge/fallback/wrangler.toml."
  }
}
