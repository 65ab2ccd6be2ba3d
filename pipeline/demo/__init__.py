"""A small cohort that is made, not downloaded."""
