"""What signing in as a person is made of: the page, the browser, the store."""
