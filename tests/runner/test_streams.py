import socket
import threading

from hypothesis import given
from hypothesis import strategies as st

from raytes.runner.podman import Attachment
from raytes.runner.streams import StdinPump, Tail


def test_a_short_stream_is_its_own_tail() -> None:
    tail = Tail(10)
    tail.append("grün".encode())
    assert tail.text(ended=True) == "grün"


def test_a_cut_falls_between_characters() -> None:
    tail = Tail(4)
    tail.append("aüüü".encode())
    assert tail.text(ended=True) == "üü"
    tail = Tail(5)
    tail.append("aüüü".encode())
    assert tail.text(ended=True) == "üü"


def test_half_a_character_waits_for_its_other_half() -> None:
    tail = Tail(10)
    tail.append("aü".encode()[:-1])
    assert tail.text(ended=False) == "a"
    assert tail.text(ended=True) == "a\ufffd"
    tail.append("ü".encode()[1:])
    assert tail.text(ended=False) == "aü"


def test_what_is_no_text_is_replaced() -> None:
    tail = Tail(10)
    tail.append(b"\x80\xffx")
    assert tail.text(ended=True) == "\ufffd\ufffdx"


def test_a_tail_of_nothing_is_empty() -> None:
    tail = Tail(0)
    tail.append(b"something")
    assert tail.text(ended=True) == ""


@given(st.lists(st.text(max_size=20)), st.integers(min_value=0, max_value=30))
def test_a_tail_is_the_end_of_the_stream_whatever_its_pieces(pieces: list[str], limit: int) -> None:
    tail = Tail(limit)
    for piece in pieces:
        tail.append(piece.encode(errors="surrogatepass"))
    whole = "".join(pieces).encode(errors="surrogatepass")
    try:
        text = whole.decode()
    except UnicodeDecodeError:
        return
    found = tail.text(ended=True)
    assert text.endswith(found)
    assert len(found.encode()) > min(limit, len(whole)) - 4


def test_a_stdin_that_can_not_be_read_is_ended_and_told() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    told = threading.Event()
    with theirs, open("/proc/self/mem", "rb", buffering=0) as unreadable:  # an I/O error at 0
        pump = StdinPump(Attachment(ours), unreadable, told.set)
        pump.start()
        theirs.settimeout(20)
        assert theirs.recv(1) == b""
        assert told.wait(20)
        pump.end()
    assert isinstance(pump.error, OSError)
