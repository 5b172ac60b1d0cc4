"""The composition says that it is insecure: then its port is this machine's alone."""

import re

from tests.service.clients import ROOT


def test_a_port_without_keys_is_published_to_loopback_alone() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines() if not line.strip().startswith("#")]
    assert 'SERVICE_INSECURE: "true"' in lines
    ports = [line for line in lines if re.fullmatch(r'- ".*:\d+"', line)]
    assert len(ports) == 1
    assert all(line.startswith('- "127.0.0.1:') for line in ports)


def test_the_image_itself_does_not_say_so() -> None:
    """`docker run --publish 8000:8000` without a key is refused."""
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    instructions = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert "SERVICE_HOST=0.0.0.0" in "\n".join(instructions)
    assert "SERVICE_INSECURE" not in "\n".join(instructions)
