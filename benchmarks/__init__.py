"""How raytes stands beside bare Podman, a bare route and its own smaller self."""
