"""YAML configurations, packaged so that an installed `sightline` finds them."""
