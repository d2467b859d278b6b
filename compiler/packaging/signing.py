"""`tidegate sign`: a line for FILE.jws, beside those of other keys, all of one mind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compiler.packaging.claims import Claims, SignatureError
from compiler.packaging.package_file import PackageFile
from compiler.packaging.package_key import SigningKey
from compiler.packaging.package_signature import Signature, read_signature, sign
from compiler.packaging.signature_file import beside, read_texts, write_texts
from compiler.packaging.trust import judge, trust_fault


@dataclass(frozen=True, slots=True)
class Signed:
    """What was done: the file of signatures, how many keys signed by now, and what was signed."""

    path: Path
    keys: int
    signature: Signature
    replaced: bool


def sign_package(
    package: PackageFile,
    key: SigningKey,
    *,
    created: int,
    clients: Mapping[str, str] | None = None,
) -> Signed:
    """Sign a package and put the signature into FILE.jws, in the place of this key's last one.

    `created` is in Unix seconds. Raises SignatureError: claims that have no meaning in a plan,
    or signatures in the file that are not about the same bytes, app, version and host apps.
    """
    facts = package.facts
    try:
        claims = Claims(facts.app, facts.version, facts.size, facts.sha256, created, clients)
        signature = sign(claims, key)
    except SignatureError as error:
        raise SignatureError(f"{package.file} cannot be signed so: {error}.") from error
    path = beside(package.file)
    before = read_texts(path) or ()
    own = [at for at, text in enumerate(before) if _key_id(path, at, text) == key.public.id]
    texts = [text for at, text in enumerate(before) if at not in own[1:]]
    if own:
        texts[own[0]] = signature.text
    else:
        texts.append(signature.text)
    fault = trust_fault(judge(texts, facts, [key.public]), needs_key=True)
    if fault is not None:
        raise SignatureError(
            f"{path} holds signatures that do not go together: {fault}. Sign with the same "
            "options, or delete that file and sign again with each key."
        )
    write_texts(path, texts)
    return Signed(path, len(texts), signature, bool(own))


def _key_id(path: Path, at: int, text: str) -> str:
    try:
        return read_signature(text).key_id
    except SignatureError as error:
        raise SignatureError(
            f"Signature {at + 1} in {path} cannot be used: {error}. Delete that line, or the file."
        ) from error
