"""What operators see: metrics, the counters that processes share, logs and the admin port."""
