"""`chatd serve` put together: roles, the inline server, the choice between inline and supervised."""
