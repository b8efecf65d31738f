"""The phones: device profiles, the fleet, model export and what an app ships."""
