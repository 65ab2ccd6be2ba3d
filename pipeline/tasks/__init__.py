"""What slides are judged by: one class, several labels, numbers, or a time to an event."""
