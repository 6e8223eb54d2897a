"""The service: recognition over HTTP and WebSocket, and a page to look at it. `soundmark serve` starts it.

`soundmark.serve.app.create_app` makes the application from loaded models, for those who run a server of their own.
"""
