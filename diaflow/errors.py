"""The two ways things go wrong: bad input (the user must act) and bad data (the survey goes on without it)."""


class InputError(Exception):
    """A file, key or value that the user gave and that cannot be used; one line that names it."""


class BadData(Exception):
    """Pixels or a catalogue that cannot be calibrated, matched or subtracted; the message becomes `reason`."""
