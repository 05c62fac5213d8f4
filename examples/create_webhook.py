"""Create and activate the webhook of the web example, once for each place where it runs.

    python examples/create_webhook.py https://example.com/webhook

``ITWIN_WEBHOOK_SECRET`` is its secret, of at least 32 characters, which the backend needs as well.
It covers the account of the service application. A webhook that is there for this address already
gets the secret and is activated again.
"""

import asyncio
import os
import sys

from itwin_async import ITwinSession

EVENTS = ["iModels.changesReady.v1", "iModels.namedVersionCreated.v1", "iModels.iModelDeleted.v1"]


async def main(callback_url: str) -> None:
    secret = os.environ["ITWIN_WEBHOOK_SECRET"]
    async with ITwinSession.from_env() as itwin:
        webhooks = itwin.webhooks
        known = [
            webhook.id
            async for webhook in webhooks.list_webhooks()
            if webhook.callback_url == callback_url
        ]
        if known:
            id = known[0]
        else:
            id = (await webhooks.create_webhook(callback_url, "Account", EVENTS, secret=secret)).id
        webhook = await webhooks.update_webhook(id, active=True, secret=secret, event_types=EVENTS)
    print(webhook)


if __name__ == "__main__":
    if len(sys.argv) != 2 or "ITWIN_WEBHOOK_SECRET" not in os.environ:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
