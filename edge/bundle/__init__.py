"""What an app ships: the bundle's folder, manifest, signature, golden batch, parity certificate, and their check."""
