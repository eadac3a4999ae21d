# The Cloudflare side of Nibble. What wrangler does instead, and what was never run: ../README.md
terraform {
  required_version = ">= 1.9"
  required_providers {
    cloudflare = {
      source  = "cloudflare/cloudflare"
      version = "5.14.0"
    }
  }
}

# The token comes from CLOUDFLARE_API_TOKEN: Workers Scripts, Workers R2 Storage, D1, Queues: Edit.
provider "cloudflare" {}
