"""What slides are judged by: classes, labels, a number, or a time to an event."""
