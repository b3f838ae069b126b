"""What users may ask for: the methods of REQUEST, sign-in data for shards, and the hub role that puts it together."""
