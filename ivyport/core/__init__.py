"""The framework-neutral graph: types, operations, builder, verifier, passes. No framework here."""
