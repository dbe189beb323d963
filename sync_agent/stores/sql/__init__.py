"""A store in a SQL database: a log of revisions, as kine keeps one.

`log` is the log itself in portable SQL, `dialect` what it needs of a database, `sqlite` the one database there is so
far, `store` the asynchronous store on top. Another database is a dialect and a `Database` beside `sqlite`.
"""
