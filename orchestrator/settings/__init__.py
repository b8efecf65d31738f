"""What a run is: the sections of its settings, the rules that join them, presets, and TOML in and out."""
