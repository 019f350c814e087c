"""State store on Redis or Valkey."""
