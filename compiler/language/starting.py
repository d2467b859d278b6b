"""`tidegate init`: a first plan with comments that teach, copied from the sample."""

from pathlib import Path

from compiler.diagnostic import PlanError, error
from compiler.language.draft import file_span

SAMPLE = Path(__file__).parent.parent / "sample"
"""The sample plan, with two versions of a small MiniApp under `bundles/`."""


FILES = "127.0.0.1:8090"
"""Where the sample's packages are downloaded from, as HOST:PORT."""


def start_plan(folder: Path, files: str = FILES) -> list[str]:
    """Write the sample plan into a folder, made if need be; give the files, relative and sorted.

    Its packages are downloaded from `files`, HOST:PORT; no HOST is this machine. Nothing is ever
    overwritten. Raises PlanError, which names every file in the way, or says why one cannot be
    written.
    """
    sources = {
        path.relative_to(SAMPLE).as_posix(): path
        for path in sorted(SAMPLE.rglob("*"))
        if path.is_file()
    }
    in_the_way = [file for file in sources if (folder / file).exists()]
    if in_the_way:
        message = "This file is there already, and nothing is overwritten. Name a new folder."
        raise PlanError(error(file_span(str(folder / file)), message) for file in in_the_way)
    address = f"127.0.0.1{files}" if files.startswith(":") else files
    for file, source in sources.items():
        data = source.read_bytes()
        if file == "workspace.yaml":
            data = data.replace(FILES.encode(), address.encode())
        target = folder / file
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as opened:
                opened.write(data)
        except OSError as fault:
            message = f"This file cannot be written ({fault.strerror}). Name another folder."
            raise PlanError([error(file_span(str(target)), message)]) from fault
    return sorted(sources)
