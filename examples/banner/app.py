#!/usr/bin/python3
"""A small web application that goes on working while some of its tables are restricted.

It asks the database, not a flag of its own, what it may write: pgdetour.is_restricted() disables the buttons of what is
refused now, and LISTEN pgdetour tells when to look again. It needs the standard library and psycopg2.

    BANNER_DATABASE="host=127.0.0.1 port=6432 dbname=shop user=shop_app" BANNER_PORT=8000 ./app.py
"""

import html
import http.server
import os
import select
import threading
import urllib.parse

import psycopg2
import psycopg2.errors

DATABASE = os.environ["BANNER_DATABASE"]
# Notifications need a session of their own: not through a pooler in transaction mode.
LISTEN = os.environ.get("BANNER_LISTEN", DATABASE)
PORT = int(os.environ.get("BANNER_PORT", "8000"))
SITE = os.environ.get("BANNER_SITE", "shop")

# What each page edits.
PAGES = {"settings": "public.settings", "orders": "public.orders"}

# No row where nothing is restricted.
MAY_ASK = """
select true
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = 'pgdetour' and c.relname = 'restriction'
"""

RESTRICTED = """
select r.message
from pgdetour.restriction as r
where r.applies and r.table_oid = pg_catalog.to_regclass(%s) and 'update' = any (r.deny)
order by r.rule
limit 1
"""


class Restrictions:
    """Messages of what is refused now, by table: looked up once, and again whenever the database says so."""

    def __init__(self):
        self.lock = threading.Lock()
        self.known = {}
        self.listening = False

    def forget(self, listening=None):
        with self.lock:
            # A new dictionary: an answer that is under way is remembered in the old one.
            self.known = {}
            self.listening = self.listening if listening is None else listening

    def message(self, connection, table):
        with self.lock:
            known = self.known if self.listening else {}
            if table in known:
                return known[table]
        with connection.cursor() as cursor:
            cursor.execute(MAY_ASK)
            message = None
            if cursor.fetchone():
                cursor.execute(RESTRICTED, (table,))
                row = cursor.fetchone()
                message = row and row[0]
        with self.lock:
            known[table] = message
        return message

    def listen(self):
        """Runs for ever; while it cannot listen, nothing is remembered."""
        while True:
            try:
                with_notices = psycopg2.connect(LISTEN, application_name="banner listener")
                with_notices.autocommit = True
                with_notices.cursor().execute("listen pgdetour")
                self.forget(listening=True)
                while True:
                    select.select([with_notices], [], [], 60)
                    with_notices.poll()
                    if with_notices.notifies:
                        with_notices.notifies.clear()
                        self.forget()
            except psycopg2.Error:
                self.forget(listening=False)
                threading.Event().wait(0.2)


restrictions = Restrictions()


class Page(http.server.BaseHTTPRequestHandler):
    """One request: GET shows a table, POST changes a row of it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        page = self.path.strip("/").split("?")[0] or "settings"
        if page not in PAGES:
            self.answer(404, "text/plain", "There is no such page.\n")
            return
        connection = psycopg2.connect(DATABASE, application_name="banner")
        try:
            connection.autocommit = True
            message = restrictions.message(connection, PAGES[page])
            with connection.cursor() as cursor:
                cursor.execute(f"select id, name, value from {PAGES[page]} order by id limit 20")
                rows = cursor.fetchall()
        finally:
            connection.close()
        self.answer(200, "text/html; charset=utf-8", render(page, rows, message))

    def do_POST(self):
        page = self.path.strip("/")
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if page not in PAGES or not {"id", "value"} <= form.keys():
            self.answer(400, "text/plain", "This cannot be saved.\n")
            return
        connection = psycopg2.connect(DATABASE, application_name="banner")
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(
                    f"update {PAGES[page]} set value = %s where id = %s", (form["value"][0], form["id"][0])
                )
        except psycopg2.errors.ReadOnlySqlTransaction as error:
            # Somebody pressed the button before the page knew. The database says it in words for people.
            restrictions.forget()
            self.answer(409, "text/plain; charset=utf-8", error.diag.message_primary + "\n")
            return
        finally:
            connection.close()
        self.send_response(303)
        self.send_header("Location", f"/{page}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #1c2430; background: #f6f7f9 }
header { background: #1c2430; color: #fff; padding: .8rem 2rem; display: flex; gap: 1.5rem; align-items: baseline }
header a { color: #b9c7da; text-decoration: none } header a.here { color: #fff; border-bottom: 2px solid #6aa5ff }
header small { margin-left: auto; color: #8fa0b5 }
.banner { background: #fff3cd; border-bottom: 1px solid #e5c76b; padding: .8rem 2rem }
main { max-width: 44rem; margin: 2rem auto; background: #fff; border: 1px solid #dfe3e8; border-radius: 8px; padding: 1rem 2rem }
form { display: grid; grid-template-columns: 12rem 1fr 6rem; gap: 1rem; padding: .5rem 0; border-top: 1px solid #eef0f3 }
form:first-of-type { border-top: 0 }
input { font: inherit; padding: .25rem .5rem; border: 1px solid #c5ccd6; border-radius: 4px }
button { font: inherit; border: 0; border-radius: 4px; background: #2563eb; color: #fff; cursor: pointer }
button:disabled { background: #c5ccd6; cursor: not-allowed } input:disabled { background: #f1f3f5; color: #7a8594 }
"""


def render(page, rows, message):
    links = "".join(
        f'<a href="/{name}"{" class=here" if name == page else ""}>{name.capitalize()}</a>' for name in PAGES
    )
    banner = f'<div class="banner" role="status">{html.escape(message)}</div>' if message else ""
    disabled = " disabled" if message else ""
    forms = "".join(
        f'<form method="post" action="/{page}"><label>{html.escape(name)}</label>'
        f'<input name="value" value="{html.escape(value or "")}"{disabled}>'
        f'<input type="hidden" name="id" value="{identity}"><button{disabled}>Save</button></form>'
        for identity, name, value in rows
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{page}</title><style>{STYLE}</style>"
        f"<header><b>{html.escape(SITE)}</b>{links}<small>served by {html.escape(os.environ.get('BANNER_NAME', ''))}"
        f"</small></header>{banner}<main><h2>{page.capitalize()}</h2>{forms}</main></html>"
    )


if __name__ == "__main__":
    threading.Thread(target=restrictions.listen, daemon=True).start()
    http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Page).serve_forever()
