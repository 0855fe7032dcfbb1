"""The one error that is meant for the person using the tool."""


class FpgmError(ValueError):
    """Input that cannot be right: one clear line that names the fix."""
