"""Generated files: reference pages in docs/, manifests in ops/."""
