"""Settings: command line, environment, limits."""

from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.settings import Settings

VALUES = {
    "checkpoints": "some/folder",
    "model": "best",
    "max_loaded_models": "5",
    "watch": "0.5",
    "host": "0.0.0.0",
    "port": "9001",
    "device": "cuda:1",
    "engine": "openvino",
    "precision": "bfloat16",
    "compile": "True",
    "calibration_images": "photos",
    "golden_images": "golden",
    "cache": "kept",
    "max_upload_bytes": "11",
    "max_pixels": "12",
    "max_batch_files": "13",
    "max_batch_bytes": "14",
    "max_queue": "15",
    "max_upload_memory": "600000000",
    "max_connections": "19",
    "request_timeout_s": "20.5",
    "upload_timeout_s": "21.5",
    "drain_timeout_s": "22.5",
    "device_timeout_s": "23.5",
    "batch_pixels": "16",
    "decode_on": "gpu",
    "threads": "17",
    "api_key_file": "keys.txt",
    "api_keys": "me:segment:" + "0" * 64,
    "insecure": "True",
    "requests_per_minute": "18",
    "cors_origin": "https://a.example,http://localhost:3000",
    "allowed_sha256": "1" * 64 + ",hashes.txt",
    "log_level": "debug",
    "log_format": "json",
}
FLAGS = {"compile", "insecure"}


def as_text(settings: Settings) -> dict[str, str]:
    return {
        name: ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in settings.model_dump().items()
    }


def test_every_setting_is_tested_here() -> None:
    assert set(VALUES) == set(Settings.model_fields)


def test_every_setting_is_an_option() -> None:
    arguments = [
        part
        for name, value in VALUES.items()
        for part in (f"--{name.replace('_', '-')}", value)[: 1 if name in FLAGS else 2]
    ]
    assert as_text(CliApp.run(Settings, cli_args=arguments)) == VALUES


def test_every_setting_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VALUES.items():
        monkeypatch.setenv(f"SERVICE_{name.upper()}", value)
    assert as_text(CliApp.run(Settings, cli_args=[])) == VALUES


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_PORT", "9001")
    assert CliApp.run(Settings, cli_args=["--port", "9002"]).port == 9002


def test_an_option_may_be_repeated() -> None:
    arguments = ["--cors-origin", "https://a.example", "--cors-origin", "http://b.example:81"]
    settings = CliApp.run(Settings, cli_args=arguments)
    assert settings.cors_origin == ("https://a.example", "http://b.example:81")


def test_the_defaults_listen_locally_and_bound_everything() -> None:
    settings = CliApp.run(Settings, cli_args=[])
    assert settings.host == "127.0.0.1"
    assert settings.checkpoints == Path("checkpoints")
    assert settings.model is None
    assert settings.max_upload_bytes == 64 * 2**20
    assert settings.max_batch_bytes >= settings.max_upload_bytes
    assert settings.threads >= 1
    assert not settings.insecure
    assert settings.cors_origin == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("port", "http"),
        ("precision", "float8"),
        ("engine", "steam"),
        ("max_upload_bytes", 0),
        ("max_pixels", 0),
        ("max_batch_files", 0),
        ("max_queue", 0),
        ("max_upload_memory", 1000),  # less than one upload
        ("max_connections", 0),
        ("request_timeout_s", 0),
        ("upload_timeout_s", -1),
        ("drain_timeout_s", 0),
        ("device_timeout_s", 0),
        ("batch_pixels", 0),
        ("threads", 0),
        ("max_loaded_models", 0),
        ("watch", -1),
        ("requests_per_minute", 0),
        ("cors_origin", "a.example"),
        ("cors_origin", "https://a.example/page"),
        ("cors_origin", "null"),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({name: value})
    assert caught.value.errors()[0]["loc"] == (name,)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Settings.model_validate({"colour": "red"})


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        CliApp.run(Settings, cli_args=[]).port = 1
