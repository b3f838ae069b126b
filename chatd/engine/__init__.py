"""The seam between Python and the engine: settings, interface, native adapter, reference model."""
