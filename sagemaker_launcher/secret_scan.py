"""Finds secrets in the texts of a launch, so that none of them reaches the archive."""

from __future__ import annotations

import binascii
import functools
import itertools
import re
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING

from sagemaker_launcher.errors import UnsafeError
from sagemaker_launcher.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_WINDOW = 64 * 1024  # characters that a pattern sees at a time: a line of any length costs linear time
_OVERLAP = 4 * 1024
_ENOUGH = 20  # findings in a window of a line: whoever has that many needs no more of them
_SHORTEST = 6
_SHORTEST_NO_WORD = 8
_VALUE_MAX = 256
_RANDOM_RUNS = 0.45  # runs per character: random Base64 has about 0.65, names and paths about 0.35

_MARK = r"#[ \t]*launcher:[ \t]*allow-secret(?![\w-])"
_HINT = (
    "keep secrets in AWS Secrets Manager and let the job read them with its role; "
    "a line that holds none can say so at its end: # launcher: allow-secret"
)


@frozen
class Finding:
    """One place that looks like a secret.

    Attributes:
        name: The text it is in: a file's name, or an option and its key (`--set ESTIMATOR.ENVIRONMENT.KEY`).
        line: Its line, from 1; 0 when the text has no lines.
        rule: What it looks like, with its article (`a GitHub token`).
        masked: At most a quarter of the value, and never more than its first 4 and last 2 characters.
    """

    name: str
    line: int
    rule: str
    masked: str

    def __str__(self) -> str:
        where = f"{self.name}:{self.line}" if self.line else self.name
        return f"{where}: looks like {self.rule} ({self.masked})"


@frozen
class Scan:
    """What was found in one text.

    Attributes:
        findings: What refuses a launch.
        allowed: What would, if its line did not say `# launcher: allow-secret`.
    """

    findings: tuple[Finding, ...]
    allowed: tuple[Finding, ...]


def scan_text(text: str, name: str) -> Scan:
    """Looks for secrets in a file's text; `name` is shown, and its suffix tells code from data."""
    code = _is_code(name)
    lines = (_Line(name, number, line, code) for number, line in enumerate(_split(text), start=1))
    return _sort(_findings(lines, _formats_in(text)))


def scan_patch(patch: str, name: str) -> Scan:
    """Looks for secrets in a unified diff: in all of it, since the lines that it removes are archived, too.

    Args:
        patch: What `git diff` printed, without colours.
        name: Shown for lines that no file header precedes; all others show `path (uncommitted)` and the line
            number in the new file, or `path (removed, uncommitted)` and the line number in the old one.
    """
    formats = _formats_in(patch)
    new = _findings(_lines_of(patch, name, _NEW), formats)
    old = _findings(_lines_of(patch, name, _OLD), formats)
    return _sort(itertools.chain(new, old))


def scan_values(values: Iterable[tuple[str, str]], name: str) -> Scan:
    """Looks for secrets in (dotted key, value) pairs, such as overrides; `name` is their option (`--set`)."""
    found = (_in_value(key, value, f"{name} {key}") for key, value in values)
    return _sort(itertools.chain.from_iterable(found))


def scan_defaults(values: Iterable[tuple[str, str]], code: str, name: str) -> Scan:
    """Looks for secrets in a config's defaults, as (dotted key, value) pairs.

    Args:
        values: The defaults. They are values already: what computed them, or where it was imported from, does not matter.
        code: The text of the program that gives them. The line that holds such a value, or else the first that sets its
            key, is named, and can declare it harmless.
        name: The program's file.
    """
    lines = _split(code)
    found = (_in_default(key, value, lines, name) for key, value in values)
    return _sort(itertools.chain.from_iterable(found))


def unmarked(value: str) -> str:
    """A value from the command line without marks at the ends of its lines: they say that it is harmless, and are no part of it."""
    return _regex(rf"[ \t]*{_MARK}(?:[ \t,;:(][^\"'\]}}\r\n]*)?(?=[\r\n]|\Z)").sub("", value)


def refuse(scans: Iterable[Scan]) -> None:
    """Lets a launch go on when nothing was found.

    Raises:
        UnsafeError: Code `secret_found`; the message lists every finding, masked.
    """
    found = [str(finding) for scan in scans for finding in scan.findings]
    if found:
        message = "\n".join(["the archive would hold what looks like a secret:", *found])
        raise UnsafeError(message, hint=_HINT, code="secret_found")


def _split(text: str) -> list[str]:
    """The lines of a text as YAML's readers see them: a carriage return ends one, too."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


@frozen
class _Line:
    name: str
    number: int
    text: str
    code: bool
    shown: bool = True


@frozen
class _Hit:
    start: int
    end: int
    rule: str
    masked: str


@frozen
class _Opened:
    """A line that ends before the value it announces: a YAML block scalar, a parenthesis."""

    key: str
    indent: int
    marked: bool


def _sort(found: Iterable[tuple[Finding, bool]]) -> Scan:
    pairs = list(found)
    # Dicts, since windows that overlap find the same twice.
    findings = dict.fromkeys(finding for finding, marked in pairs if not marked)
    allowed = dict.fromkeys(finding for finding, marked in pairs if marked and finding not in findings)
    return Scan(tuple(findings), tuple(allowed))


def _findings(lines: Iterable[_Line], formats: tuple[_Format, ...]) -> Iterator[tuple[Finding, bool]]:
    """Every finding, and whether its line is marked as harmless."""
    opened: _Opened | None = None
    for line in lines:
        marked = _is_marked(line.text)
        indent = len(line.text) - len(line.text.lstrip(" \t"))
        if opened and indent <= opened.indent:
            opened = None
        if line.shown:
            hits = _hits(line, formats)
            if opened and not hits:
                hit = _value_hit(line.text, indent, opened.key, code=line.code)
                hits = [hit] if hit else []
            covered = marked or bool(opened and opened.marked)
            for hit in hits:
                yield Finding(line.name, line.number, hit.rule, hit.masked), covered
        opened = _opened(line.text, indent, marked=marked)


def _in_value(key: str, value: str, where: str) -> Iterator[tuple[Finding, bool]]:
    lines = [_Line(where, 0, line, code=False) for line in _split(value)]
    found = list(_findings(lines, _formats_in(value)))
    literal = unmarked(value).strip().strip("\"'")[:_VALUE_MAX]
    rule = _named_rule(key, literal)
    if rule and not found and not literal.startswith(("{", "[")):
        found = [(Finding(where, 0, rule, _mask(literal)), _is_marked(value))]
    yield from found


def _in_default(key: str, value: str, lines: list[str], name: str) -> Iterator[tuple[Finding, bool]]:
    for finding, marked in _in_value(key, value, name):
        number = _line_of(key, value, lines)
        if number:
            yield replace(finding, line=number), marked or _is_marked(lines[number - 1])
        else:
            yield replace(finding, name=f"{name}, {key}"), marked


def _line_of(key: str, value: str, lines: list[str]) -> int:
    """The first line, from 1, that holds a value, or else sets its key; 0 when none does."""
    setting = r"[\"']?\]?\s*(?::[^=]+)?[:=]"
    names = (rf"(?<!\w){re.escape(part)}{setting}" for part in (key, key.rpartition(".")[2]))
    for pattern in (re.escape(value), *names):
        for number, line in enumerate(lines, start=1):
            if re.search(pattern, line):
                return number
    return 0


def _hits(line: _Line, formats: tuple[_Format, ...]) -> list[_Hit]:
    if len(line.text) > _WINDOW:
        step = _WINDOW - _OVERLAP
        starts = range(0, len(line.text), step)
        windows = (replace(line, text=line.text[start : start + _WINDOW]) for start in starts)
        # What the end of a window cuts in two is whole in the next one.
        found = (hit for window in windows for hit in _hits(window, formats))
        return [hit for hit in found if hit.start < step or hit.end < _WINDOW]
    hits: list[_Hit] = []
    for hit in itertools.chain(_formatted(line.text, formats), _named(line.text, code=line.code)):
        if not any(hit.start < other.end and other.start < hit.end for other in hits):
            hits.append(hit)
        if len(hits) == _ENOUGH:
            break
    return hits


def _mask(secret: str) -> str:
    shown = len(secret) // 4
    tail = min(2, shown // 3)
    head = min(4, shown - tail)
    masked = f"{secret[:head]}…{secret[len(secret) - tail :]}"
    return "".join(character if character.isprintable() else "?" for character in masked)


def _is_marked(text: str) -> bool:
    return "allow-secret" in text and bool(_regex(_MARK).search(text))


@functools.cache
def _regex(pattern: str) -> re.Pattern[str]:
    """Compiled at the first use: compiling all of them would cost more than importing this module."""
    return re.compile(pattern, re.ASCII | re.DOTALL)


# --- secrets that their format gives away ---


def _show_secret(match: re.Match[str]) -> str:
    return _mask(match["secret"])


def _show_header(match: re.Match[str]) -> str:
    return match["secret"]


def _show_host(match: re.Match[str]) -> str:
    masked = f"{match['scheme']}://…@{match['host']}"
    return "…" if match["secret"] in masked else masked


def _is_login(secret: str) -> bool:
    """Whether this is the Base64 form of `user:password`."""
    try:
        login = binascii.a2b_base64(secret + "=" * (-len(secret) % 4)).decode()
    except ValueError:
        return False
    return ":" in login and login.isprintable()


def _is_no_word(value: str) -> bool:
    return len(value) >= _SHORTEST_NO_WORD and bool(_regex(r"(?=\D*\d)[^A-Za-z]*[A-Za-z]").match(value))


def _stands_for_nothing(value: str) -> bool:
    """Whether somebody filled in what a secret would look like."""
    return bool(_regex(_FILLER).search(value))


def _stands_for_another(value: str) -> bool:
    """Whether a value is a placeholder, or a reference to where the secret is."""
    if _stands_for_nothing(value) or len(set(value.lower())) <= 2:  # noqa: PLR2004 - such as xx-xx-xx
        return True
    if _regex(_FILE_PATH).fullmatch(value):
        return not _is_random(value)
    return bool(
        _regex(_REFERENCE).match(value)
        or _regex(_PLACEHOLDER).fullmatch(value)
        or _regex(_SENTENCE).fullmatch(value)
    )


def _is_itself(value: str) -> bool:
    return not _stands_for_another(value)


@frozen
class _Format:
    """How the secrets of one provider look.

    Attributes:
        rule: What it is, with its article.
        hints: Words apart by a blank, of which every match has one: far cheaper to look for than the pattern.
        pattern: Its group `secret` is the value. No part of a match begins another: that keeps it linear.
        holds: Whether a match is one indeed.
        show: The masked form.
    """

    rule: str
    hints: str
    pattern: str
    holds: Callable[[str], bool] = bool
    show: Callable[[re.Match[str]], str] = _show_secret


def _token(rule: str, hints: str, pattern: str) -> _Format:
    """A secret that its first letters give away, at the start of a word or after an escaped line break."""
    return _Format(rule, hints, rf"(?:(?<![\w-])|(?<=\\[nrt]))(?P<secret>{pattern})")


# Prefixes and alphabets as the providers document them; lengths with some slack, since they grow.
_FORMATS = (
    _Format(
        "a private key",
        "KEY-----",
        r"(?P<secret>-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY-----)",
        show=_show_header,
    ),
    _token("an AWS access key id", "AKIA ASIA", r"A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _Format(
        "an AWS secret access key",
        "ccess CCESS",
        r"(?i:secret_?access_?key)\\?[\"']?[ \t]*[:=][ \t]*\\?[\"']?"
        r"(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    ),
    _token("an Amazon Bedrock API key", "ABSK", r"ABSK[A-Za-z0-9+/]{100,}={0,2}"),
    _token("an Anthropic API key", "sk-ant-", r"sk-ant-[\w-]{20,}"),
    _token("an OpenAI API key", "sk-", r"sk-(?:(?:proj|svcacct|admin)-[\w-]{20,}|[A-Za-z0-9]{32,})"),
    _token("a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"(?:gh[opusr]|github_pat)_\w{30,}"),
    _token("a GitLab token", "gl", r"gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|oas)-[\w-]{20,}"),
    _token("a Slack token", "xox xapp-", r"(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}"),
    _Format(
        "a Slack webhook",
        "hooks.slack.com",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<secret>[A-Za-z0-9+/]{20,})",
    ),
    _token("a Stripe key", "k_live_ k_test_ whsec_", r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}"),
    _token("a Google API key", "AIza", r"AIza[\w-]{35}(?![\w-])"),
    _token("a Google OAuth secret", "GOCSPX- ya29.", r"(?:GOCSPX-|ya29\.)[\w-]{20,}"),
    _token("a Hugging Face token", "hf_ api_org_", r"(?:hf|api_org)_[A-Za-z0-9]{30,}"),
    _Format(
        "a Weights & Biases API key",
        "wandb WANDB",
        r"(?i:wandb[._ ](?:api_key|key|login))\W{1,4}(?:key\W{1,3})?(?P<secret>[0-9a-f]{40})(?![0-9a-f])",
    ),
    _token("a Replicate API token", "r8_", r"r8_[A-Za-z0-9]{37,}"),
    _token("a Groq API key", "gsk_", r"gsk_[A-Za-z0-9]{40,}"),
    _token("an NVIDIA API key", "nvapi-", r"nvapi-[\w-]{40,}"),
    _token("a LangSmith API key", "lsv2_", r"lsv2_(?:pt|sk)_\w{30,}"),
    _token("an npm token", "npm_", r"npm_[A-Za-z0-9]{36,}"),
    _token("a PyPI token", "pypi-AgE", r"pypi-AgE[\w-]{50,}"),
    _token("a SendGrid API key", "SG.", r"SG\.[\w-]{16,}\.[\w-]{16,}"),
    _token("a Twilio API key", "SK", r"SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    _token("a Databricks token", "dapi", r"dapi[0-9a-f]{32}(?:-\d)?(?![A-Za-z0-9])"),
    _token("a DigitalOcean token", "_v1_", r"do[opr]_v1_[0-9a-f]{64}"),
    _token("a Docker Hub token", "dckr_", r"dckr_[po]at_[\w-]{20,}"),
    _token("a HashiCorp Vault token", "hvs. hvb.", r"hv[sb]\.[\w-]{24,}"),
    _token("a JSON Web Token", "eyJ", r"eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    _Format(
        "an Azure storage key",
        "AccountKey= SharedAccessKey=",
        r"(?:AccountKey|SharedAccessKey)=(?P<secret>[A-Za-z0-9+/]{40,}={0,2})",
    ),
    _token("an Azure client secret", "Q~", r"[\w~.]{3}\dQ~[\w~.-]{31,34}(?![\w~.-])"),
    _Format(
        "a URL with a password",
        "://",
        r"(?<![A-Za-z0-9+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,20})://[^\s/:@\"'<>]{0,128}:"
        r"(?P<secret>[^\s/?#\"'<>]{3,256})@(?P<host>[A-Za-z0-9.\[\]:-]{1,253})",
        holds=_is_itself,
        show=_show_host,
    ),
    _Format(
        "a Basic authentication header",
        "asic ASIC",
        r"(?<!\w)(?i:basic) {1,4}(?P<secret>[A-Za-z0-9+/]{8,}={0,2})",
        holds=_is_login,
    ),
    _Format(
        "a Bearer token",
        "earer EARER",
        r"(?<!\w)(?i:bearer) {1,4}(?P<secret>[\w.~+/-]{20,}={0,2})",
        holds=_is_no_word,
    ),
    _Format(
        "a Docker registry login",
        'auth" auth\\"',
        r"\"auth\\?\"[ \t]*:[ \t]*\\?\"(?P<secret>[A-Za-z0-9+/]{8,}={0,2})\\?\"",
        holds=_is_login,
    ),
)


def _formats_in(text: str) -> tuple[_Format, ...]:
    return tuple(form for form in _FORMATS if any(hint in text for hint in form.hints.split()))


def _formatted(text: str, formats: tuple[_Format, ...]) -> Iterator[_Hit]:
    for form in formats:
        for match in _regex(form.pattern).finditer(text):
            if form.holds(match["secret"]) and not _stands_for_nothing(match["secret"]):
                yield _Hit(match.start(), match.end(), form.rule, form.show(match))


# --- secrets that the name of their key gives away ---

_TELLING_NAME = (
    r"token(?!i|s)|secret(?!s?_?manager)|passw|passphrase|(?:^|_)(?:pwd|pass)$|api_?key|access_?key"
    r"|private_?key|kaggle_key|credential|(?:^|_)auth(?:orization)?$"
)
_VAGUE_NAME = r"(?:^|_)(?:auth|authorization|pass)$"  # as often a method or a pass over the data
_KEY_NAME = r"(?:^|_)key$"
# Names that tell about a secret, refer to one, or are a language model's word for something else.
_HARMLESS_NAME = (
    r"kms|public_key|(?:^|_)(?:bos|eos|eot|eod|pad|unk|cls|sep|mask|special|start|begin|end|stop|fim|image|audio|video"
    r"|next|prev|previous|first|last|new|input|output|extra|per|each|max|min|num|n|vocab|word|char|sub|added|prompt|completion"
    r"|continuation|pagination)_token$"
    r"|(?:^|_)token_(?:pool(?:ing|er)?|mix(?:ing|er|up)?|merg(?:ing|er|e)|choice|rout(?:ing|er)|drop(?:ping)?|prun(?:ing|er)"
    r"|select(?:ion|or)|sampl(?:ing|er)|shift(?:ing)?|shuffl(?:e|ing)|mask(?:ing)?|reduction|aggregation|strategy|norm|order"
    r"|encod(?:ing|er)|learner|parallel(?:ism)?)$"
    r"|_(?:ids?|arns?|names?|paths?|files?|dir|ur[il]s?|endpoint|host|enabled|types?|kind|env|var|ttl|expiry"
    r"|expires?|expiration|at|timeout|seconds|len|length|size|counts?|limit|index|idx|pos|position|ref|version"
    r"|provider|source|method|mode|headers?|field|prefix|suffix|regex|pattern|policy|roles?|region|algorithm|format"
    r"|class|scheme|stdin|prompt|required|rotation|hash|sha1|sha256|md5|digest|checksum|fingerprint|hint|help|text"
    r"|message|msg|error|label|title|description|dim|embeddings?|loss|rate|ratio|levels?|weights?|words?|store"
    r"|backend|helper|dropout|budget|used|usage|profile|process|classification|generator|bytes|rules?|manager)$"
)

_FILLER = r"[xX]{5}|\*{3}|\.{3}|…|abcdefghijklmnop|(?i:placeholder|redacted|your[-_])"
_PLACEHOLDER = (
    r"(?i)(?:change[-_ ]?(?:me|it|this)|(?:insert|enter|replace|paste|put|fill)[-_ ].*|.*[-_ ]here"
    r"|(?:example|sample|dummy|fake|mock|test(?:ing)?|default|none|null|nil|undefined|unset|empty|optional|required"
    r"|enabled|disabled|removed|masked|hidden|todo|tbd|fixme|foobar|anonymous|inherit|string|secretstr|bytes"
    r"|integer|boolean|true|false|password|passwd|pass|pwd|pw|secret|token|key|value)"
    r"(?:[-_ ]?(?:password|secret|token|key|value|string))?)[?!.]?"
)
_REFERENCE = (
    r"\$\w+$|[$%]\(|<.*>$|%\w*%$|%[sdr]$|`|.*(?:\$\{|\$\(|\{\{|\{\w[\w.!:()]*\})|\s[+%,)]|[+%,)]\s"
    r"|[A-Za-z][A-Za-z0-9+.-]*://"
    r"|(?:arn|ssm|env|vault|file|secretsmanager|sha\d{1,3}|md5):"
    r"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
)
# Of passphrases, few have more than six words.
_SENTENCE = r"[A-Za-z']+(?:[,;:]? [A-Za-z']+){6,}[.!?]?"
_FILE_PATH = r"(?:~|\.{1,2})?/[\w.-]+(?:/[\w.-]*)*"
_NUMBER = r"[-+]?[\d_,.]+(?:[eE][-+]?\d+)?%?"
_WORDS = r"[A-Za-z]+([/_.-]+[A-Za-z]+)*"
_EXPRESSION = r"[\[{(#]|[A-Za-z_][\w.]*[(\[]|.*:$"

_KEY = (
    r"(?<![\w.-])(?P<quoted>(?<=[\"']))?(?P<flag>--?)?\.?(?P<key>[A-Za-z_][\w.-]{2,127})(?P<closed>\\?[\"'])?"
    r"(?:\]?[ \t]*(?:(?P<equals>[:?]=|=>|=(?!=))|(?P<colon>:(?(closed)|(?=[\s\\\"']))))[ \t]*"
    r"|(?(quoted)(?(closed)[ \t]*,[ \t]*(?=\\?[\"'])|(?!))|(?!))|(?(flag)[ \t]+(?=[^\s-])|(?!)))"
)
_VALUE = (
    r"[rbufRBUF]{0,2}(?:\\[\"'](?P<escaped>[^\"'\\]{0,256})|\"(?P<double>(?:[^\"\\]|\\.){0,256})"
    r"|'(?P<single>(?:[^'\\]|\\.){0,256}))|(?P<bare>[^\s\"',;&]{1,8}[^\s\"',;&=]{0,248}={0,2})"
)
_ANNOTATION = r"[A-Za-z][\w.\[\]|, ]{0,60}=[ \t]*(?=[rbufRBUF]{0,2}\\?[\"'])"
_OPENER = r"(?<![\w.-])(?P<key>[A-Za-z_][\w.-]{2,127})\\?[\"']?\]?[ \t]*[:=][ \t]*(?:[|>][-+]?|\(|\\)?$"

# In these an unquoted word is a variable or a type.
_CODE = frozenset(
    "c cc cpp cs cu cuh go h hpp ipynb java jl js jsx kt lua mjs php py pyi pyx r rb rs scala swift tf ts tsx".split()  # noqa: SIM905
)


class _Kind(Enum):
    """What the name of a key says about its value."""

    HARMLESS = auto()
    SECRET = auto()
    VAGUE = auto()
    KEY = auto()


def _is_code(name: str) -> bool:
    return "." in name and name.rpartition(".")[2].lower() in _CODE


def _named(text: str, *, code: bool) -> Iterator[_Hit]:
    """Values behind the name of a secret: `key: value`, `KEY=value`, `("key", "value")`, `--key value`."""
    comment = _regex(r"(?:^|\s)#").search(text)
    prose = comment.start() if comment else len(text)
    position = 0
    while match := _regex(_KEY).search(text, position):
        position = match.end()
        if _kind(match["key"]) is not _Kind.HARMLESS:
            entry = match["colon"] and (match["closed"] or _begins_entry(text, match.start()))
            doubtful = match.start() >= prose or not (entry or match["equals"])
            if hit := _value_hit(text, position, match["key"], code=code, doubtful=doubtful):
                yield hit
                position = hit.end


def _begins_entry(text: str, position: int) -> bool:
    before = text[max(0, position - 16) : position].rstrip()
    return not before or before[-1] in "-{,("


def _value_hit(text: str, position: int, key: str, *, code: bool, doubtful: bool = False) -> _Hit | None:
    if code and (annotation := _regex(_ANNOTATION).match(text, position)):
        position = annotation.end()
    match = _regex(_VALUE).match(text, position)
    if not match or (code and match["bare"]):
        return None
    value = match[match.lastgroup or 0]
    if match["bare"]:
        if _regex(_EXPRESSION).match(value):
            return None
        value = value.rstrip("})]")
    rule = _named_rule(key, value, doubtful=doubtful)
    return _Hit(match.start(), match.end(), rule, _mask(value)) if rule else None


def _opened(text: str, indent: int, *, marked: bool) -> _Opened | None:
    head = text.partition(" #")[0].rstrip()
    if not head.endswith((":", "=", "|", ">", "(", "\\", "-", "+")):
        return None
    match = _regex(_OPENER).search(head[-_VALUE_MAX:])
    return _Opened(match["key"], indent, marked) if match else None


def _named_rule(key: str, value: str, *, doubtful: bool = False) -> str:
    """The rule that a value breaks under this name, or nothing; in a doubtful place, a word breaks none."""
    kind = _kind(key)
    if kind is _Kind.KEY:
        broken = _is_random(value)
    else:
        enough = _is_no_word(value) if doubtful or kind is _Kind.VAGUE else len(value) >= _SHORTEST
        broken = kind is not _Kind.HARMLESS and enough and _is_itself(value) and not _repeats(key, value)
    return f"a secret named {key}" if broken else ""


@functools.lru_cache(maxsize=4096)
def _kind(key: str) -> _Kind:
    name = _regex(r"_\d+$").sub("", _snake(key.rstrip(".").rpartition(".")[2]))
    telling = _regex(_TELLING_NAME).search(name)
    if not telling and not _regex(_KEY_NAME).search(name):
        return _Kind.HARMLESS
    if _regex(_HARMLESS_NAME).search(name):  # the longest of all patterns, and most names are neither
        return _Kind.HARMLESS
    if telling:
        return _Kind.VAGUE if _regex(_VAGUE_NAME).search(name) else _Kind.SECRET
    return _Kind.KEY


def _snake(name: str) -> str:
    apart = _regex(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])").sub("_", name)
    return _regex(r"[^a-z0-9]+").sub("_", apart.lower()).strip("_")


def _repeats(key: str, value: str) -> bool:
    """Whether a value says no more than its key: a number of tokens, the same name, the name of a secret."""
    if "token" in key.lower() and _regex(_NUMBER).fullmatch(value):
        return True
    words = _regex(_WORDS).fullmatch(value)
    name = _snake(value) if words else ""
    return bool(words and (name == _snake(key) or (words[1] and _regex(_TELLING_NAME).search(name))))


def _is_random(value: str) -> bool:
    """Whether a value is Base64 of at least 24 random bytes, and no path, name or hexadecimal digest.

    How often upper case, lower case and digits take turns tells them apart better than their entropy does.
    """
    body = value.rstrip("=")
    mixed = _regex(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[\w+/-]{32,}").fullmatch(body)
    runs = _regex(r"[a-z]+|[A-Z]+|\d+|[+/_-]+").findall(body)
    return bool(mixed) and len(runs) > _RANDOM_RUNS * len(body)


# --- the two sides of a unified diff ---


@frozen
class _Side:
    """One side of a diff: its marks, the other side's mark, its file header, its group in a hunk's header, its label."""

    mark: str
    other: str
    header: str
    range: str
    label: str


_NEW = _Side("+", "-", "+++ ", "new", "(uncommitted)")
_OLD = _Side("-", "+", "--- ", "old", "(removed, uncommitted)")
_HUNK = (
    r"(?P<marks>@@+) (?:-(?P<old>\d{1,9})(?:,(?P<old_count>\d{1,9}))? )+"
    r"\+(?P<new>\d{1,9})(?:,(?P<new_count>\d{1,9}))? @@"
)


def _lines_of(patch: str, name: str, side: _Side) -> Iterator[_Line]:
    """The lines of one side. Context belongs to both, and is reported with the new one."""
    shown, code = name, _is_code(name)
    number = left = width = 0
    for text in patch.split("\n"):
        marks = text[:width]
        if left:
            if side.other not in marks and not marks.startswith("\\"):
                for part in _split(text[width:]):  # git knows no line that ends with a carriage return alone
                    yield _Line(shown, number, part, code, shown=side is _NEW or side.mark in marks)
                number, left = number + 1, left - 1
        elif text.startswith(side.header):
            path = _path_in(text.removeprefix(side.header))
            shown, code = f"{path} {side.label}", _is_code(path)
        elif hunk := _regex(_HUNK).match(text):
            number, left = int(hunk[side.range]), int(hunk[f"{side.range}_count"] or 1)
            width = len(hunk["marks"]) - 1


def _path_in(header: str) -> str:
    """Git quotes unusual paths as C does: https://git-scm.com/docs/git-config, core.quotePath."""
    path = header.rstrip("\t\r")
    if path.startswith('"'):
        octal = _regex(r"\\([0-3][0-7]{2})").sub(lambda code: chr(int(code[1], 8)), path.strip('"'))
        path = octal.encode("latin-1", "replace").decode("utf-8", "replace").replace('\\"', '"')
    return path[2:] if path.startswith(("a/", "b/", "i/", "w/")) else path
