"""A new configuration taken over while the site is controlled: what may not be (`rules`), who makes
way for it (`way`), the steps (`change`), and who asks for it (`asking`)."""
