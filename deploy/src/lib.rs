//! Deployment of Tape: images, charts and Terraform.
