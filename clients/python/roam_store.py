"""What a device of roamd must not forget, in SQLite."""

import contextlib
import sqlite3

from google.protobuf import proto
from roamd.v1 import roamd_pb2 as pb


class Store:
    """What a device keeps: its position, conversations, messages, and sends without an answer."""

    def __init__(self, path=":memory:"):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.executescript("""
            CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY, proto BLOB);
            CREATE TABLE IF NOT EXISTS conversation (id TEXT PRIMARY KEY, proto BLOB);
            CREATE TABLE IF NOT EXISTS message (
                id TEXT, seq INTEGER, proto BLOB, PRIMARY KEY (id, seq));
            CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, proto BLOB);
        """)

    @contextlib.contextmanager
    def transaction(self):
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield self.db
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def _all(self, kind, query, *args):
        return [proto.parse(kind, row[0]) for row in self.db.execute(query, args)]

    def position(self):
        return next(iter(self._all(pb.Position, "SELECT proto FROM place")), None)

    def move(self, position):
        self.db.execute("REPLACE INTO place VALUES (1, ?)", (proto.serialize(position),))

    def conversations(self):
        return self._all(pb.Conversation, "SELECT proto FROM conversation ORDER BY id")

    def messages(self, conversation):
        query = "SELECT proto FROM message WHERE id = ? ORDER BY seq"
        return self._all(pb.Message, query, conversation)

    def outbox(self):
        return self._all(pb.Send, "SELECT proto FROM outbox ORDER BY number")

    def queue(self, send):
        """Before it is sent: whatever happens then, it is sent again with the same number."""
        row = (send.client_message_id, proto.serialize(send))
        self.db.execute("INSERT INTO outbox VALUES (?, ?)", row)

    def settle(self, send):
        self.db.execute("DELETE FROM outbox WHERE number = ?", (send.client_message_id,))

    def save_batch(self, epoch, last_seq, messages):
        """Entries and position in one transaction: killing the app at any moment costs nothing."""
        rows = [(one.conversation_id, one.history_seq, proto.serialize(one)) for one in messages]
        with self.transaction() as db:
            db.executemany("REPLACE INTO message VALUES (?, ?, ?)", rows)
            self.move(pb.Position(epoch=epoch, seq=last_seq))

    def adopt(self, position, conversations):
        """After TooLong: all conversations and the position they belong to, in one transaction."""
        rows = [(one.conversation_id, proto.serialize(one)) for one in conversations]
        with self.transaction() as db:
            db.execute("DELETE FROM conversation")
            db.executemany("INSERT INTO conversation VALUES (?, ?)", rows)
            self.move(position)
