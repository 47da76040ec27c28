"""What a tracked recording is written to: each kind of file its own class, all with the methods of `Output`."""
