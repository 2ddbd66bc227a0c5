"""An FTP server over TLS as vsftpd and ProFTPD are by default: for its data it only takes a
connection that resumes the session of the control connection, so that nobody else can have it.
"""

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

_ANSWERS = {
    "USER": "331 and the password?",
    "PASS": "230 come in",
    "PBSZ": "200 yes",
    "PROT": "200 yes",
    "TYPE": "200 yes",
    "MDTM": "213 20200101000000",
}


@contextmanager
def strict_ftps(directory: Path, data: bytes) -> Iterator[tuple[str, Path]]:
    """Its URL, every file of which has these bytes, and the certificate to trust it by."""
    certificate, key = directory / "certificate", directory / "key"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    name = ["-nodes", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*new, *name, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 welcome")
            with socket.create_server(("127.0.0.1", 0)) as listening:
                while line := self.rfile.readline():
                    self._answer(line.decode().split()[0], listening)

        def _answer(self, command: str, listening: socket.socket) -> None:
            match command:
                case "AUTH":
                    self._say("234 go on")
                    self.connection = context.wrap_socket(self.connection, server_side=True)
                    self.rfile = self.connection.makefile("rb")
                case "PASV":
                    port = listening.getsockname()[1]
                    self._say(f"227 at (127,0,0,1,{port // 256},{port % 256})")
                case "SIZE":
                    self._say(f"213 {len(data)}")
                case "RETR":
                    connection, _ = listening.accept()
                    self._say("150 here it is")
                    with context.wrap_socket(connection, server_side=True) as protected:
                        resumed = protected.session_reused
                        if resumed:
                            protected.sendall(data)
                    self._say("226 that was it" if resumed else "522 this is another session")
                case _:
                    self._say(_ANSWERS.get(command, "502 what?"))

        def finish(self) -> None:
            """Nothing: there is no buffer to be written."""

        def _say(self, line: str) -> None:
            self.connection.sendall(f"{line}\r\n".encode())

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield f"ftp://127.0.0.1:{server.server_address[1]}", certificate
        finally:
            server.shutdown()
