"""One module per page: it reads from the library, and renders its template."""
