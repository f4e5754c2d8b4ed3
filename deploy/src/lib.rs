//! What it takes to run Tape: images, charts and Terraform.
