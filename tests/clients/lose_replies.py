"""Stands before a Redis, and loses the reply to each XADD: it closes the connection instead
(scripts/producers). lose_replies.py PORT_OF_REDIS prints the port on which it listens."""

import socket
import sys
import threading


def serve(client, redis):
    while request := client.recv(65536):
        redis.sendall(request)
        reply = redis.recv(65536)
        if b"xadd" in request.lower():
            break
        client.sendall(reply)
    client.close()
    redis.close()


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    redis = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    threading.Thread(target=serve, args=(client, redis), daemon=True).start()
