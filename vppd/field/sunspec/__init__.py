"""What a SunSpec device is: its models, and the profile and curves made of them."""
