"""The FPGM explorer: `streamlit run app.py`."""

if __name__ == "__main__":  # the page, which Streamlit runs for every browser
    from pages.ui.explore import main

    main()
else:  # the server, once, before there is a browser
    import streamlit as st
    from starlette.middleware import Middleware

    from pages.ui.preload import preload
    from pages.ui.session.left_pages import LeftPages
    from pages.ui.session.visitors import VisitorCookie

    app = st.App(__file__, lifespan=preload, middleware=[Middleware(VisitorCookie), Middleware(LeftPages)])
