"""The delivery service: schedules and cancels deliveries. Its step is the pivot."""
