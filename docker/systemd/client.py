"""A balancer on this host, whose client is 203.0.113.7, for the script `test` here: `client.py COMMAND`."""

import itertools
import socket
import subprocess
import sys
import threading

PROXY = ("127.0.0.1", 25577)
SEEN = {"tcp": "tcp 203.0.113.7", "udp": "udp 203.0.113.7"}
LIST = "/etc/glommproxy/balancers.txt"


def header(protocol, port):
    """Version 2, from 203.0.113.7."""
    kind = {"tcp": b"\x11", "udp": b"\x12"}[protocol]
    addresses = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1")
    return b"\r\n\r\n\0\r\nQUIT\n\x21" + kind + b"\0\x0c" + addresses + port.to_bytes(2, "big") + b"\x63\xdd"


def connect(port=40000):
    connection = socket.create_connection(PROXY, 60)
    connection.sendall(header("tcp", port))
    return connection


def heard(connection):
    try:
        with connection:
            return connection.makefile("r").readline().strip() or "refused"
    except ConnectionResetError:
        return "refused"


def ask(protocol, port=40000):
    """What the server tells a new client."""
    try:
        if protocol == "tcp":
            return heard(connect(port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
            it.settimeout(60)
            it.connect(PROXY)
            it.send(header("udp", port) + b"hello")
            return it.recv(100).decode().strip()
    except (ConnectionRefusedError, ConnectionResetError):
        return "refused"


def tell_lost(answers):
    lost = [it for it in answers if it != SEEN["tcp"]]
    print(len(lost), "lost of", len(answers), lost[:3], flush=True)


def stay():
    """Opens a connection, and says there what comes on standard input."""
    connection = connect()
    lines = connection.makefile("r")
    print(lines.readline(), end="", flush=True)
    for line in sys.stdin:
        connection.sendall(line.encode())
        print(lines.readline(), end="", flush=True)


def crowd():
    """Opens many connections, says so, and counts those that are served."""
    connections = [connect(40000 + at) for at in range(100)]
    print("connected", flush=True)
    tell_lost([heard(it) for it in connections])


def stream():
    """Connects again and again until standard input ends, and tells what was not served."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    answers = []
    for at in itertools.count():
        answers.append(ask("tcp", 20000 + at % 20000))
        if at == 0:
            print("streaming", flush=True)
        if over.wait(0.005):
            break
    tell_lost(answers)


def while_it_starts():
    """What holds while the service reads its list, which is a pipe, and so before it is ready."""
    with open(LIST, "w") as pipe:
        show = ["systemctl", "show", "-P", "ActiveState", "glommproxy"]
        print(subprocess.check_output(show, text=True).strip(), ask("tcp"))
        print("127.0.0.0/8", file=pipe)


def reload_unnoticed():
    """Reloads while the list is rewritten, which is noticed when the file is closed and no earlier."""
    with open(LIST, "w") as file:
        print("198.51.100.0/24", file=file, flush=True)
        print(ask("tcp"), flush=True)
        subprocess.check_call(["systemctl", "reload", "glommproxy"])
        print(next(it for _ in range(10_000) if (it := ask("tcp")) == "refused"), flush=True)


commands = {it.__name__: it for it in (stay, crowd, stream, while_it_starts, reload_unnoticed)}
if sys.argv[1] == "ask":
    print(ask(sys.argv[2]))
else:
    commands[sys.argv[1]]()
