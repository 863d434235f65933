"""What every other room builds on: errors, identities, storage, retries, YAML files, registries."""
