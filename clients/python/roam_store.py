"""What a device of roamd must not forget, in SQLite.

A message has one row, whichever way it came; what came twice is seen here. The row is replaced when
the message changes, and keeps its place when its content is gone.
"""

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
            CREATE TABLE IF NOT EXISTS change (id TEXT PRIMARY KEY, seq INTEGER);
            CREATE TABLE IF NOT EXISTS large (
                id TEXT PRIMARY KEY, history INTEGER, head INTEGER, version INTEGER, ends INTEGER);
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

    def save_batch(self, epoch, last_seq, entries, user, fanout):
        """Entries and position in one transaction: killing the app at any moment costs nothing."""
        with self.transaction():
            for entry in entries:
                self._apply(entry, user, fanout)
            self.move(pb.Position(epoch=epoch, seq=last_seq))

    def _apply(self, entry, user, fanout):
        kind = entry.WhichOneof("kind")
        item = getattr(entry, kind) if kind else None
        match kind:
            case "message":
                self.put(item)
            case "edited":
                self.change(item.message, item.mutation_seq)
            case "recalled" | "deleted":
                state = pb.MESSAGE_STATE_RECALLED if kind == "recalled" else pb.MESSAGE_STATE_DELETED
                self.blank(item.conversation_id, item.history_seq, state)
                self.changed_to(item.conversation_id, item.mutation_seq)
            case "hidden":
                for seq in item.history_seqs:
                    self.blank(item.conversation_id, seq, pb.MESSAGE_STATE_HIDDEN)
            case "cleared":
                self.db.execute("DELETE FROM message WHERE id = ? AND seq <= ?",
                                (item.conversation_id, item.cleared_to_seq))
            case "mode" if item.large:
                self.begin(item.conversation_id, item.history_seq - 1)
            case "mode":
                self.end(item.conversation_id, item.history_seq - 1)
            case "membership":
                came = item.action in (pb.MEMBERSHIP_ACTION_CREATED, pb.MEMBERSHIP_ACTION_ADDED)
                went = item.action in (pb.MEMBERSHIP_ACTION_REMOVED, pb.MEMBERSHIP_ACTION_LEFT)
                if went and user in item.users:
                    self.end(item.conversation_id, item.history_seq)
                elif came and 0 < fanout < item.member_count:
                    if user in item.users or item.conversation_id not in self.large():
                        self.begin(item.conversation_id, item.history_seq)

    def put(self, message):
        """True = it was not there before."""
        row = (message.conversation_id, message.history_seq, proto.serialize(message))
        return self.db.execute("INSERT OR IGNORE INTO message VALUES (?, ?, ?)", row).rowcount > 0

    def change(self, message, mutation_seq):
        """A message as it is now. Only what is here is replaced: the rest comes as it is anyway."""
        row = (proto.serialize(message), message.conversation_id, message.history_seq)
        self.db.execute("UPDATE message SET proto = ? WHERE id = ? AND seq = ?", row)
        self.changed_to(message.conversation_id, mutation_seq)

    def blank(self, conversation, seq, state):
        query = "SELECT proto FROM message WHERE id = ? AND seq = ?"
        for message in self._all(pb.Message, query, conversation, seq):
            message.state = state
            for field in ("content", "content_type", "mentions", "revision", "edited_at_ms"):
                message.ClearField(field)
            row = (proto.serialize(message), conversation, seq)
            self.db.execute("UPDATE message SET proto = ? WHERE id = ? AND seq = ?", row)

    def mutation(self, conversation):
        """The last change of a conversation that is applied here."""
        query = "SELECT seq FROM change WHERE id = ?"
        return next((row[0] for row in self.db.execute(query, (conversation,))), 0)

    def changed_to(self, conversation, mutation_seq):
        self.db.execute("INSERT INTO change VALUES (?, ?) "
                        "ON CONFLICT (id) DO UPDATE SET seq = max(seq, excluded.seq)",
                        (conversation, mutation_seq))

    def large(self):
        """Large conversations: {id: (last message here, last message announced, version, ends)}."""
        return {row[0]: row[1:] for row in self.db.execute("SELECT * FROM large ORDER BY id")}

    def begin(self, conversation, before):
        """Messages after `before` do not come as entries. What is missing up to it is not forgotten."""
        self.db.execute("INSERT INTO large VALUES (?, ?, ?, 0, 0) ON CONFLICT (id) "
                        "DO UPDATE SET head = max(head, excluded.head), ends = 0",
                        (conversation, before, before))

    def end(self, conversation, upto):
        """Messages after `upto` come as entries, or not at all."""
        self.db.execute("UPDATE large SET head = max(head, ?), ends = 1 WHERE id = ?",
                        (upto, conversation))

    def announce(self, conversation, head, version=0):
        self.db.execute("UPDATE large SET head = max(head, ?), version = max(version, ?) "
                        "WHERE id = ?", (head, version, conversation))

    def save_large(self, conversation, messages, history):
        """What is known of a large conversation reaches to `history`: the messages that are new."""
        with self.transaction() as db:
            fresh = [message for message in messages if self.put(message)]
            db.execute("UPDATE large SET history = max(history, ?), head = max(head, ?) WHERE id = ?",
                       (history, history, conversation))
        return fresh

    def forget_large(self, conversation):
        self.db.execute("DELETE FROM large WHERE id = ?", (conversation,))

    def adopt(self, position, conversations):
        """After TooLong: all conversations and the position they belong to, in one transaction."""
        rows = [(one.conversation_id, proto.serialize(one)) for one in conversations]
        known = self.position()
        with self.transaction() as db:
            if known is not None and known.epoch != position.epoch:
                # Another data set: the same numbers may name other messages.
                for table in ("message", "change", "large"):
                    db.execute(f"DELETE FROM {table}")
            db.execute("DELETE FROM conversation")
            db.executemany("INSERT INTO conversation VALUES (?, ?)", rows)
            large = {one.conversation_id: one for one in conversations if one.large and not one.left}
            for gone in set(self.large()) - set(large):
                self.forget_large(gone)
            for conversation, one in large.items():
                if conversation not in self.large():
                    self.begin(conversation, one.visible_last_seq)
            self.move(position)
