"""A server that tells its clients, over TCP and UDP, the address it sees: `game.py PORT`."""

import socketserver
import sys
import threading


class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"tcp %s\n" % self.client_address[0].encode())
        for line in self.rfile:
            self.wfile.write(line)


class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(b"udp %s\n" % self.client_address[0].encode(), self.client_address)


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    # Many may come at once, such as those that waited while glommproxy was started again.
    request_queue_size = 1024
    daemon_threads = True


address = ("0.0.0.0", int(sys.argv[1]))
udp = socketserver.UDPServer(address, Udp)
threading.Thread(target=udp.serve_forever, daemon=True).start()
TcpServer(address, Tcp).serve_forever()
