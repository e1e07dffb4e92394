"""Generation speed: our engine and what a user would pick instead, over batch and context, beside floors."""
