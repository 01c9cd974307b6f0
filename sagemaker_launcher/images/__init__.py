"""Images, looked into without running anything of them."""
