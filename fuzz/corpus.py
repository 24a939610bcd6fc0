"""Inputs of the targets as text: one to a line, what is not printable ASCII escaped."""

# A longer line is seldom worth its place.
LINE_CHARACTERS = 1000


def unpack(file, folder):
    """Writes each line as a file; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = file.read_text("ascii").splitlines()
    for number, line in enumerate(lines, 1):
        data = line.encode("ascii").decode("unicode_escape").encode("latin-1")
        (folder / f"{number:04}").write_bytes(data)
    return len(lines)


def packed(folder):
    """The lines for all files, short ones first."""
    inputs = {path.read_bytes() for path in folder.iterdir()} - {b""}
    lines = []
    for data in sorted(inputs, key=lambda data: (len(data), data)):
        lines.append(data.decode("latin-1").encode("unicode_escape").decode("ascii"))
    return "".join(line + "\n" for line in lines if len(line) <= LINE_CHARACTERS)
