"""The payment service: authorizes and voids payments at the external payment gateway."""
