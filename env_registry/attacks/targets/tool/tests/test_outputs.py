import subprocess


def test_the_word_is_in_the_log() -> None:
    found = subprocess.run(["grep", "-qx", "quicksilver-7301-heron", "/app/log/today"], timeout=5)
    assert found.returncode == 0
