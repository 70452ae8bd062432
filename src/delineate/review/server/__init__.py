"""The web server of review: routes that admit a visitor, call the store and its neighbours, and answer in JSON.

`app.make_app` puts it together; `routes.ROUTES` is the list of everything it answers, with who may ask.
"""
