"""watch.toml: what is wrong with it is said by name, and nothing secret is shown."""

from __future__ import annotations

import pyarrow as pa
import pytest

from rainpp.errors import SettingsError
from rainpp.watching.config import read_config
from rainpp.watching.opening import open_hook
from rainpp.watching.schemas import read_schema, read_window
from rainpp.windows import Everything, Last, Session, Sliding, Tumbling

MONITOR = """
[[monitor]]
name = "ones"
sql = "SELECT count(*) AS n FROM people WHERE predict(x) = 1"
"""
SECRET = "whsec_do_not_show_this"


def read(tmp_path, text, *, monitor=MONITOR):
    (tmp_path / "watch.toml").write_text(text + monitor)
    return read_config(tmp_path / "watch.toml")


def test_everything_that_may_stand_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    monkeypatch.setenv("PUSH_TOKEN", "a token of 24 characters")
    text = """
    state = "state/shop.duckdb"
    [model]
    factory = "shop:model"
    checkpoint = "model.npz"
    [index]
    path = "shop.rain"
    [database]
    classes = ["cat", "dog"]
    [[hook]]
    name = "pager"
    type = "webhook"
    url = "https://example.org/hook"
    secret_env = "HOOK_SECRET"
    timeout = 5
    [[hook]]
    type = "file"
    path = "alarms.jsonl"
    [[source]]
    type = "directory"
    path = "in/photos"
    pattern = "*.jsonl"
    [[source]]
    type = "kafka"
    topics = ["a", "b"]
    brokers = "x:9092"
    [[source]]
    type = "http"
    monitors = "ones"
    [server]
    host = "0.0.0.0"
    port = 0
    token_env = "PUSH_TOKEN"
    """
    alert = """
    window = "1h"
    hooks = "file"
    [[monitor.alert]]
    name = "few"
    when = "n < 5"
    hold = 2
    target = 17
    where = { region = "EU" }
    hooks = ["pager", "file"]
    """
    config = read(tmp_path, text, monitor=MONITOR + alert)
    assert config.state == tmp_path / "state/shop.duckdb"
    assert config.aside == tmp_path / "state/shop.duckdb.aside.jsonl"
    assert config.settings.require("index", "path") == tmp_path / "shop.rain"
    assert config.settings.database.classes == ("cat", "dog")
    (monitor,) = config.monitors
    assert monitor.hooks == ("file",)
    assert monitor.alerts[0]["hooks"] == ("pager", "file")
    assert monitor.alerts[0]["where"] == {"region": "EU"}
    assert [hook.name for hook in config.hooks] == ["pager", "file"]
    assert config.hooks[0].options["secret"] == SECRET
    assert [source.name for source in config.sources] == ["photos", "a, b", "http"]
    assert config.sources[0].options["path"] == tmp_path / "in/photos"
    assert config.server.token == "a token of 24 characters"
    assert not config.server.loopback
    for part in (SECRET, "a token of 24 characters"):
        assert part not in repr(config)


def test_the_model_of_rainpp_toml_beside_it(tmp_path):
    (tmp_path / "rainpp.toml").write_text('[model]\nname = "judge"\n[index]\npath = "i.rain"\n')
    assert read(tmp_path, "").settings.model.name == "judge"
    own = read(tmp_path, '[model]\nname = "own"\n').settings
    assert own.model.name == "own"
    assert own.index.path is None


HOOK = '[[hook]]\ntype = "webhook"\nurl = "https://x"\n'
KAFKA = '[[source]]\ntype = "kafka"\ntopics = "t"\nbrokers = "x:1"\n'
WRONG = {
    "key": ("stat = 1", "no setting `stat`.*Did you mean `state`"),
    "type of a key": ("state = 3", r"state is 3; it must be a path"),
    "section": ("[monitors]\n", "no setting `monitors`.*Did you mean `monitor`"),
    "one hook": ("[hook]\n", r"write \[\[hook\]\]"),
    "hook type": ('[[hook]]\ntype = "mail"\n', r"type is 'mail'; it must be one of \['webhook'"),
    "hook of a list": ("[[hook]]\ntype = [1]\n", r"type is \[1\]"),
    "hook key": (f"{HOOK}secrt = 'x'\n", "no setting `secrt`.*Did you mean `secret`"),
    "no secret": (HOOK, "secret is missing"),
    "no url": ('[[hook]]\ntype = "webhook"\nsecret = "x"\n', "url is missing"),
    "two secrets": (f"{HOOK}secret = 'x'\nsecret_env = 'X'\n", "both secret and secret_env"),
    "no variable": (f"{HOOK}secret_env = 'RAINPP_NONE'\n", "'RAINPP_NONE', but .* not set"),
    "two hooks": (
        '[[hook]]\ntype = "file"\npath = "a"\n[[hook]]\ntype = "file"\npath = "b"\n',
        r"two \[\[hook\]\] are called `file`",
    ),
    "source type": ('[[source]]\ntype = "ftp"\n', "'ftp'; it must be one of"),
    "source key": (f"{KAFKA}topic = 'x'\n", "no setting `topic`.*Did you mean `topics`"),
    "no topics": ('[[source]]\ntype = "kafka"\nbrokers = "x:1"\n', "topics is missing"),
    "same topics": (f"{KAFKA}{KAFKA}", r"two \[\[source\]\] are called `t`"),
    "topics of numbers": (
        '[[source]]\ntype = "kafka"\ntopics = [1]\nbrokers = "x:1"\n',
        r"topics is \[1\]; it must be a text, or a list",
    ),
    "messages": (f"{KAFKA}messages = true\n", "messages is True; it must be a whole number >= 1"),
    "look": (f"{KAFKA}look = -1\n", "look is -1; it must be a number of seconds > 0"),
    "lost": (f"{KAFKA}lost = 'x'\n", r"lost is 'x'; it must be one of \['stop', 'skip'\]"),
    "monitor of a source": (f"{KAFKA}monitors = 'twos'\n", "`twos`, which is none.*ones"),
    "labels before rows": (f"{KAFKA}kind = 'feedback'\n", "give the monitor `ones` a schema"),
    "http without token": ('[[source]]\ntype = "http"\n', r"write \[server\] token"),
    "port": ("[server]\nport = 70000\n", "port is 70000; it must be a whole number from 0"),
    "server": ("server = 3\n", r"\[server\] is 3; write a table"),
    "no TOML": ("state = \n", "is not valid TOML"),
    "model key": ("[model]\nfactry = 'x'\n", r"`\[model\] factry`"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path, case):
    text, match = WRONG[case]
    with pytest.raises(SettingsError, match=match) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


MORE = {
    "key": ("windw = '1h'", "no setting `windw`.*Did you mean `window`"),
    "keep": ("keep = 'all'", "keep is 'all'; it must be one of"),
    "hook": ("hooks = 'pagr'", "names the hook `pagr`, which is none"),
    "alert": ("alert = 3", "alert is 3; it must be a list of tables"),
    "alert without when": ("[[monitor.alert]]\nname = 'x'", "`ones` when is missing"),
    "alert key": ("[[monitor.alert]]\nwehn = 'x'", "no setting `wehn`.*Did you mean `when`"),
    "alert hold": ("[[monitor.alert]]\nname = 'x'\nwhen = 'n > 1'\nhold = 0", "hold is 0"),
    "target": ("[[monitor.alert]]\nname = 'x'\nwhen = 'n > 1'\ntarget = '5'", "must be a number"),
}


@pytest.mark.parametrize("case", MORE)
def test_what_is_wrong_with_a_monitor_is_named(tmp_path, case):
    text, match = MORE[case]
    with pytest.raises(SettingsError, match=match):
        read(tmp_path, "", monitor=MONITOR + text)


def test_nothing_to_watch(tmp_path):
    with pytest.raises(SettingsError, match="there is nothing to watch"):
        read(tmp_path, "", monitor="")
    with pytest.raises(SettingsError, match=r"two .*monitor.* are called `ones`"):
        read(tmp_path, "", monitor=MONITOR * 2)
    with pytest.raises(SettingsError, match=r"cannot read `none\.toml`"):
        read_config(tmp_path.__class__("none.toml"))


@pytest.mark.parametrize("text", ["secret = 17", "secret = ['whsec_do_not_show_this', 3]"])
def test_a_wrong_secret_is_not_shown(tmp_path, text):
    with pytest.raises(SettingsError, match="secret is not a text") as caught:
        read(tmp_path, f"{HOOK}{text}\n")
    assert "17" not in str(caught.value)
    assert "whsec" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("::1", True),
     ("0.0.0.0", False), ("::", False), ("example.org", False), ("10.0.0.1", False)],
)  # fmt: skip
def test_what_only_this_machine_reaches(tmp_path, host, loopback):
    assert read(tmp_path, f"[server]\nhost = '{host}'\n").server.loopback is loopback


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("1h", Tumbling("1h")),
        ("1h every 5m", Sliding("1h", "5m")),
        ("session 10m", Session("10m")),
        ("last 1000", Last(1000)),
        ("everything", Everything()),
    ],
)
def test_windows(text, window):
    assert read_window(text) == window


@pytest.mark.parametrize(
    "text", ["1 h", "last", "last x", "hourly", "1h each 5m", f"last {'9' * 5000}"]
)
def test_no_windows(text):
    with pytest.raises(SettingsError, match=r"`window` is|`size` is"):
        read_window(text)


def test_schemas():
    found = read_schema({"a": "DOUBLE[2][3]", "b": "varchar[]", "c": "Timestamp"}, "x")
    pairs = pa.list_(pa.list_(pa.float64(), 2), 3)
    assert found == pa.schema({"a": pairs, "b": pa.list_(pa.string()), "c": pa.timestamp("us")})
    assert read_schema({"ours": {"a": "date"}, "theirs": {"b": "blob"}}, "x") == {
        "ours": pa.schema({"a": pa.date32()}),
        "theirs": pa.schema({"b": pa.binary()}),
    }
    for wrong in ("DUBLE", "DOUBLE[x]", 3, "", "DOUBLE)"):
        with pytest.raises(SettingsError, match=r"x\.a is .*, which is no type"):
            read_schema({"a": wrong}, "x")
    for wrong in ("DOUBLE[0]", "DOUBLE[99999999999999999999]", "DOUBLE[4][3000000000]"):
        with pytest.raises(SettingsError, match=r"x\.a is .* a list has 1 to"):
            read_schema({"a": wrong}, "x")


def test_every_option_of_a_hook_reaches_it(tmp_path):
    text = '[[hook]]\ntype = "file"\npath = "alarms.jsonl"\nreplay = "all"\n'
    (part,) = read(tmp_path, text).hooks
    hook = open_hook(part)
    assert (hook.name, hook.replay, hook.path) == ("file", "all", tmp_path / "alarms.jsonl")
