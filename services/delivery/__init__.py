"""The delivery service: schedules and cancels deliveries. Scheduling is the pivot."""
